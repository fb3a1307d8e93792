-- People at a browser, and programs that ask them for a token.

-- Of a signed-in browser; the cookie itself is kept nowhere.
CREATE TABLE sessions (
  -- sha256 of the cookie, base64url.
  id TEXT PRIMARY KEY,
  user TEXT NOT NULL REFERENCES users (name),
  -- The token that opened it: the session can do what that can, and ends with it. NULL: the person signed in themselves.
  token TEXT REFERENCES tokens (jti),
  -- Of the token; 0 without one.
  epoch INTEGER NOT NULL,
  -- Wrong user codes entered; too many end the session (RFC 8628 section 5.1).
  misses INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_by_age ON sessions (expires_at);

-- RFC 8628: a program without a browser waits here until a person decides.
CREATE TABLE device_logins (
  -- sha256 of the device code, base64url.
  id TEXT PRIMARY KEY,
  -- Eight letters.
  user_code TEXT NOT NULL UNIQUE,
  -- What is asked for; once approved, what is given.
  scopes TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'taken')),
  -- Seconds between polls; rises when they come faster.
  interval INTEGER NOT NULL,
  -- POSIX milliseconds.
  polled_at INTEGER,
  -- Of the token to be given, as they were when it was approved.
  user TEXT REFERENCES users (name),
  org TEXT REFERENCES orgs (name),
  epoch INTEGER,
  seconds INTEGER,
  created_at TEXT NOT NULL,
  expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX device_logins_by_age ON device_logins (expires_at);

-- To the minute, as this registry saw it; the edge verifies without asking.
ALTER TABLE tokens ADD COLUMN last_used_at TEXT;
