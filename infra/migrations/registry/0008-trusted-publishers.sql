-- Workload OIDC: a CI's identity token is exchanged for a token that publishes one package.

CREATE TABLE trusted_publishers (
  id TEXT PRIMARY KEY,
  -- It need not exist yet: its first version may come this way.
  package TEXT NOT NULL,
  org TEXT NOT NULL REFERENCES orgs (name),
  issuer TEXT NOT NULL,
  -- {claim: value}, all of which the identity token must have.
  claims TEXT NOT NULL,
  -- In whose name the tokens act; they end with that member's right to publish.
  created_by TEXT NOT NULL REFERENCES users (name),
  created_at TEXT NOT NULL
) STRICT;
CREATE INDEX trusted_publishers_by_package ON trusted_publishers (package, issuer);

-- Identity tokens that were used; each works once.
CREATE TABLE used_identity_tokens (
  issuer TEXT NOT NULL,
  jti TEXT NOT NULL,
  expires_at TEXT NOT NULL,
  PRIMARY KEY (issuer, jti)
) STRICT;
CREATE INDEX used_identity_tokens_by_age ON used_identity_tokens (expires_at);

-- The one package that such a token is good for. NULL: not bound to one.
ALTER TABLE tokens ADD COLUMN package TEXT;
