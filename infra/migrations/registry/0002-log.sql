-- The transparency log: one leaf per event that others must be able to check, in the order in which it was committed.

-- Never updated, never deleted: the tree of every signed checkpoint is computed from these rows.
CREATE TABLE log_leaves (
  i INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  kind TEXT NOT NULL,
  -- Package or organisation, in clear: for this registry alone, the entry may hide it.
  subject TEXT NOT NULL,
  -- Of the version that it is about.
  digest TEXT,
  -- What is hashed and served: canonical JSON.
  entry TEXT NOT NULL,
  -- RFC 6962 leaf hash of the entry, 64 hex digits.
  hash TEXT NOT NULL
) STRICT;
CREATE INDEX log_leaves_by_digest ON log_leaves (digest, kind);

-- Roots of whole tiles: hash n of tile level 1 and above, so that no root is computed from all leaves.
CREATE TABLE log_nodes (
  level INTEGER NOT NULL,
  n INTEGER NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (level, n)
) STRICT;

-- The newest signed tree head; its size never falls.
CREATE TABLE log_checkpoint (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  size INTEGER NOT NULL,
  -- The signed note, without cosignatures.
  note TEXT NOT NULL,
  -- POSIX seconds.
  signed_at INTEGER NOT NULL
) STRICT;

-- The newest cosignature of each witness.
CREATE TABLE log_cosignatures (
  witness TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  -- POSIX seconds, as the witness states them.
  at INTEGER NOT NULL,
  line TEXT NOT NULL
) STRICT;

-- What turns a private name into a hash that nobody can guess; base64 of 32 random bytes.
CREATE TABLE log_salts (
  package TEXT PRIMARY KEY,
  salt TEXT NOT NULL
) STRICT;

-- Events to be logged by the next who signs: what was there before the log was, since SQL cannot hash.
CREATE TABLE log_backlog (
  id INTEGER PRIMARY KEY,
  event TEXT NOT NULL
) STRICT;
INSERT INTO log_backlog (event)
  SELECT json_object('kind', CASE WHEN revoked_at IS NULL THEN 'key.add' ELSE 'key.revoke' END,
    'org', org, 'facts', json_object('kid', kid))
    FROM publisher_keys ORDER BY created_at, kid;
INSERT INTO log_backlog (event)
  SELECT json_object('kind', 'version.publish', 'package', p.name,
    'private', json(CASE WHEN p.visibility = 'public' THEN 'false' ELSE 'true' END),
    'facts', json_object('version', v.version, 'digest', v.digest))
    FROM versions v JOIN packages p ON p.name = v.package ORDER BY v.published_at, v.digest;
INSERT INTO log_backlog (event)
  SELECT json_object('kind', 'tag.move', 'package', p.name,
    'private', json(CASE WHEN p.visibility = 'public' THEN 'false' ELSE 'true' END),
    'facts', json_object('tag', t.tag, 'version', v.version, 'digest', v.digest))
    FROM tags t JOIN packages p ON p.name = t.package JOIN versions v ON v.digest = t.version
   ORDER BY t.moved_at, p.name, t.tag;
