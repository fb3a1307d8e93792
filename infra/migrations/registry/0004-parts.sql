-- Blobs that come in parts, and removals that a publish must not meet half way.

-- Bytes of every part but the last, fixed when the upload began. NULL: the blob comes in one request.
ALTER TABLE upload_blobs ADD COLUMN part_size INTEGER;

-- Set in the moment before the bytes go: from then on no publish may build on them until the row is gone.
ALTER TABLE blob_removals ADD COLUMN removing_at TEXT;
