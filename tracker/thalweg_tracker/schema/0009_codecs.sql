-- The columns of the key repeat themselves for hundreds of rows, and steps for whole series once they are differences. LZ4 unpacks
-- such rows twice as fast as ZSTD, in less space; every query, merge and insert goes through them.
ALTER TABLE points MODIFY COLUMN run CODEC(LZ4), MODIFY COLUMN metric CODEC(LZ4), MODIFY COLUMN rank CODEC(LZ4),
    MODIFY COLUMN step CODEC(Delta, LZ4);
