-- The key in done guards the effect; effects counts it, and has no key that would hide a second one.
CREATE TABLE IF NOT EXISTS done (
    key         uuid PRIMARY KEY,
    number      bigint NOT NULL,
    worker      text NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS effects (key uuid NOT NULL);
-- A few rows that all jobs share: their transactions also update existing rows.
CREATE TABLE IF NOT EXISTS accounts (
    account bigint PRIMARY KEY,
    entries bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
    key          uuid NOT NULL,
    worker       text NOT NULL,
    process      integer NOT NULL,
    delivered_at timestamptz NOT NULL DEFAULT now()
);
-- A copy of the producers' journals.
CREATE TABLE IF NOT EXISTS accepted (
    key         uuid PRIMARY KEY,
    job         jsonb NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS accepted_at ON accepted (accepted_at);
