-- Tokens that are listed and renewed.

-- user: a person's own. token: a program's. NULL: made before 0006; renewed as a program's.
ALTER TABLE tokens ADD COLUMN kind TEXT CHECK (kind IN ('user', 'token'));
CREATE INDEX tokens_by_order ON tokens (org, created_at, jti);
