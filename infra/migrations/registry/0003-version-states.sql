-- What may change of a version, and what choosing one needs; bytes and digests never change.

-- Text that sorts as semver does (registry/resolve/version-order.ts). NULL: published before 0003; filled when first asked.
ALTER TABLE versions ADD COLUMN sort TEXT;
-- One bit per kind of operation (registry/resolve/operation-mask.ts).
ALTER TABLE versions ADD COLUMN operation_mask INTEGER NOT NULL DEFAULT 0;
UPDATE versions SET operation_mask =
    (instr(operations, '"low_rank"') > 0) * 1
  + (instr(operations, '"magnitude"') > 0) * 2
  + (instr(operations, '"scale"') > 0) * 4
  + (instr(operations, '"bottleneck"') > 0) * 8
  + (instr(operations, '"prefix"') > 0) * 16
  + (instr(operations, '"prompt"') > 0) * 32
  + (instr(operations, '"replace"') > 0) * 64
  + (instr(operations, '"dense"') > 0) * 128;
-- The largest rank that is run, 0 without any. NULL: not recorded (published before 0003).
ALTER TABLE versions ADD COLUMN max_rank INTEGER;
-- SPDX expression, '' when the manifest states none. NULL: not recorded (published before 0003).
ALTER TABLE versions ADD COLUMN license TEXT;

-- Not chosen by ranges and tags any more; still there by digest.
ALTER TABLE versions ADD COLUMN yanked TEXT;
ALTER TABLE versions ADD COLUMN yanked_at TEXT;
ALTER TABLE versions ADD COLUMN deprecated TEXT;
ALTER TABLE versions ADD COLUMN deprecated_at TEXT;
-- For law and leaked secrets: the bytes are gone for good, digest and reason stay.
ALTER TABLE versions ADD COLUMN tombstoned TEXT;
ALTER TABLE versions ADD COLUMN tombstoned_at TEXT;

-- Choosing scans this index alone: a package of 10,000 versions is some milliseconds of it at worst.
CREATE INDEX versions_by_order ON versions (
  package, sort, base_digest, operation_mask, max_rank, license, published_at, yanked, deprecated, tombstoned
);

ALTER TABLE bases ADD COLUMN structure TEXT
  GENERATED ALWAYS AS (json_extract(identity, '$.structure')) VIRTUAL;
CREATE INDEX bases_by_structure ON bases (structure);

-- Blobs of tombstoned versions that are still to be removed from the store.
CREATE TABLE blob_removals (
  blob TEXT PRIMARY KEY,
  asked_at TEXT NOT NULL
) STRICT;
