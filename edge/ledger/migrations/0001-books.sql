-- Books of tenants: one file (or one Durable Object) may hold one book or many; `tenant` is part of every key.
-- Amounts are integer nano-units. Nothing here is ever deleted by a cascade; entries are never updated.

CREATE TABLE entries (
  tenant TEXT NOT NULL,
  id INTEGER NOT NULL,
  type TEXT NOT NULL,
  at TEXT NOT NULL,
  hold_id TEXT,
  request_id TEXT,
  postings TEXT NOT NULL,
  memo TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (tenant, id)
) STRICT;

-- Running totals, so that a hold need not sum the book; a test derives them again from the entries.
CREATE TABLE accounts (
  tenant TEXT NOT NULL,
  account TEXT NOT NULL,
  amount INTEGER NOT NULL,
  PRIMARY KEY (tenant, account)
) STRICT;

CREATE TABLE holds (
  tenant TEXT NOT NULL,
  hold_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  amount INTEGER NOT NULL,
  -- Unix milliseconds.
  expires_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'settled', 'released', 'expired')),
  PRIMARY KEY (tenant, hold_id)
) STRICT;
CREATE INDEX holds_open ON holds (expires_at) WHERE state = 'open';

CREATE TABLE top_ups (
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  amount INTEGER NOT NULL,
  PRIMARY KEY (tenant, id)
) STRICT;

CREATE TABLE receipts (
  tenant TEXT NOT NULL,
  request_id TEXT NOT NULL,
  receipt TEXT NOT NULL,
  PRIMARY KEY (tenant, request_id)
) STRICT;

-- Answers kept for a repeated Idempotency-Key. status is null while the first call is in flight.
CREATE TABLE answers (
  tenant TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  status INTEGER,
  headers TEXT,
  body TEXT,
  -- Unix milliseconds.
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant, key)
) STRICT;
