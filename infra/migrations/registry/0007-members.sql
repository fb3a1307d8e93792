-- The role admin, and invitations by code.

-- SQLite cannot change a CHECK, so the table is made anew.
CREATE TABLE members_next (
  org TEXT NOT NULL REFERENCES orgs (name),
  user TEXT NOT NULL REFERENCES users (name),
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'publisher', 'reader')),
  created_at TEXT NOT NULL,
  PRIMARY KEY (org, user)
) STRICT;
INSERT INTO members_next (org, user, role, created_at) SELECT org, user, role, created_at FROM members;
DROP TABLE members;
ALTER TABLE members_next RENAME TO members;
CREATE INDEX members_by_user ON members (user);

CREATE TABLE invitations (
  id TEXT PRIMARY KEY,
  -- sha256 of the code, base64url; the code itself is shown once.
  code TEXT NOT NULL UNIQUE,
  org TEXT NOT NULL REFERENCES orgs (name),
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'publisher', 'reader')),
  created_by TEXT NOT NULL REFERENCES users (name),
  created_at TEXT NOT NULL,
  expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX invitations_by_org ON invitations (org, created_at);

-- Its primary key is what makes a code work once; its reference, what makes a withdrawn one work never.
CREATE TABLE invitation_uses (
  invitation TEXT PRIMARY KEY REFERENCES invitations (id),
  user TEXT NOT NULL REFERENCES users (name),
  at TEXT NOT NULL
) STRICT;
