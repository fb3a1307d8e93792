-- People who sign in at another OpenID Connect issuer.

CREATE TABLE identities (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  user TEXT NOT NULL REFERENCES users (name),
  created_at TEXT NOT NULL,
  PRIMARY KEY (issuer, subject)
) STRICT;
CREATE INDEX identities_by_user ON identities (user);

-- Sign-ins that have left for the issuer; each comes back once.
CREATE TABLE sign_in_attempts (
  -- sha256 of `state`, base64url.
  id TEXT PRIMARY KEY,
  -- sha256 of the cookie of the browser that began: nobody else's may end it.
  browser TEXT NOT NULL,
  issuer TEXT NOT NULL,
  nonce TEXT NOT NULL,
  -- RFC 7636; a secret for minutes.
  verifier TEXT NOT NULL,
  next TEXT NOT NULL,
  -- Whose the identity becomes. NULL: it must be somebody's already.
  link_user TEXT REFERENCES users (name),
  expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX sign_in_attempts_by_age ON sign_in_attempts (expires_at);
