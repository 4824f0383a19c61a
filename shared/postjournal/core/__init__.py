"""The pure core: records, fold, decisions. No I/O, clock, randomness, threads or logging."""
