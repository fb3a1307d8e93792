-- The registry's catalogue, the same file for D1 and node:sqlite. Append-only: a later change is a new file.
-- Times are ISO 8601 in UTC; digests are "sha256:<hex>"; nothing is deleted by a cascade.

-- One row once the first administrator exists: its primary key is what makes the setup code work once.
CREATE TABLE setup (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  done_at TEXT NOT NULL
) STRICT;

CREATE TABLE users (
  name TEXT PRIMARY KEY,
  -- 1 = runs this registry: may create users.
  operator INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL
) STRICT;

CREATE TABLE orgs (
  name TEXT PRIMARY KEY,
  -- Tokens below it are refused.
  epoch INTEGER NOT NULL DEFAULT 1,
  created_at TEXT NOT NULL
) STRICT;

CREATE TABLE members (
  org TEXT NOT NULL REFERENCES orgs (name),
  user TEXT NOT NULL REFERENCES users (name),
  role TEXT NOT NULL CHECK (role IN ('owner', 'publisher', 'reader')),
  created_at TEXT NOT NULL,
  PRIMARY KEY (org, user)
) STRICT;
CREATE INDEX members_by_user ON members (user);

CREATE TABLE tokens (
  jti TEXT PRIMARY KEY,
  org TEXT NOT NULL REFERENCES orgs (name),
  -- In whose name the bearer acts; their role bounds what the scopes give.
  user TEXT NOT NULL REFERENCES users (name),
  name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created_at TEXT NOT NULL,
  expires_at TEXT NOT NULL,
  revoked_at TEXT
) STRICT;
CREATE INDEX tokens_revoked ON tokens (expires_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX tokens_by_user ON tokens (org, user);

CREATE TABLE publisher_keys (
  org TEXT NOT NULL REFERENCES orgs (name),
  kid TEXT NOT NULL,
  jwk TEXT NOT NULL,
  created_at TEXT NOT NULL,
  revoked_at TEXT,
  PRIMARY KEY (org, kid)
) STRICT;

CREATE TABLE bases (
  digest TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  identity TEXT NOT NULL,
  -- Digest of the blob that lists them.
  tensors TEXT NOT NULL,
  created_at TEXT NOT NULL,
  created_by TEXT NOT NULL
) STRICT;
CREATE INDEX bases_by_name ON bases (name);

CREATE TABLE packages (
  name TEXT PRIMARY KEY,
  org TEXT NOT NULL REFERENCES orgs (name),
  visibility TEXT NOT NULL CHECK (visibility IN ('public', 'private')),
  created_at TEXT NOT NULL
) STRICT;
CREATE INDEX packages_by_org ON packages (org);

CREATE TABLE uploads (
  id TEXT PRIMARY KEY,
  org TEXT NOT NULL REFERENCES orgs (name),
  -- sha256 of what the request asks for: a repeated request finds its upload again.
  request TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('uploading', 'verifying', 'published', 'failed')),
  digest TEXT NOT NULL,
  package TEXT NOT NULL,
  version TEXT NOT NULL,
  visibility TEXT NOT NULL,
  tags TEXT NOT NULL,
  signatures TEXT NOT NULL,
  -- [{ blob, signatures }]: the payloads are blobs.
  attestations TEXT NOT NULL,
  failure TEXT,
  created_by TEXT NOT NULL,
  created_at TEXT NOT NULL
) STRICT;
CREATE INDEX uploads_by_request ON uploads (org, request);
CREATE INDEX uploads_by_age ON uploads (created_at);

CREATE TABLE upload_blobs (
  upload TEXT NOT NULL REFERENCES uploads (id),
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  role TEXT NOT NULL,
  -- staged: this upload sent it. readable: the publisher could already read it.
  state TEXT NOT NULL CHECK (state IN ('missing', 'staged', 'readable')),
  PRIMARY KEY (upload, digest)
) STRICT;

CREATE TABLE versions (
  -- sha256 of the canonical manifest.
  digest TEXT PRIMARY KEY,
  package TEXT NOT NULL REFERENCES packages (name),
  version TEXT NOT NULL,
  -- The version without build metadata, which semver does not compare: it is what is taken.
  precedence TEXT NOT NULL,
  base_digest TEXT NOT NULL REFERENCES bases (digest),
  base_name TEXT NOT NULL,
  operations TEXT NOT NULL,
  family TEXT NOT NULL,
  description TEXT NOT NULL,
  keywords TEXT NOT NULL,
  size INTEGER NOT NULL,
  signatures TEXT NOT NULL,
  attestations TEXT NOT NULL,
  upload TEXT NOT NULL,
  published_by TEXT NOT NULL,
  published_at TEXT NOT NULL,
  UNIQUE (package, precedence)
) STRICT;

CREATE TABLE version_blobs (
  version TEXT NOT NULL REFERENCES versions (digest),
  blob TEXT NOT NULL,
  size INTEGER NOT NULL,
  role TEXT NOT NULL,
  PRIMARY KEY (version, blob)
) STRICT;
CREATE INDEX version_blobs_by_blob ON version_blobs (blob);

CREATE TABLE tags (
  package TEXT NOT NULL REFERENCES packages (name),
  tag TEXT NOT NULL,
  version TEXT NOT NULL REFERENCES versions (digest),
  moved_at TEXT NOT NULL,
  PRIMARY KEY (package, tag)
) STRICT;

-- Who changed what; never updated.
CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  actor TEXT NOT NULL,
  org TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL
) STRICT;
