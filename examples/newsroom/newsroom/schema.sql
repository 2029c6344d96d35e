-- One row for each video that a worker has begun. A video without a row is still queued.
CREATE TABLE IF NOT EXISTS videos (
    key          uuid PRIMARY KEY,
    state        text NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    reason       text,
    attempts     integer NOT NULL DEFAULT 1,
    accepted_at  timestamptz NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    width        integer,
    height       integer,
    duration_s   double precision,
    video_bytes  bigint,
    poster_bytes bigint
);
