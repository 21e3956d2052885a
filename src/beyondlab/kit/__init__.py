"""The ground floor: processes that never leak, the machine, recordings, figures, tables, exercises, prices, checks."""
