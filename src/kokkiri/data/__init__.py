"""Sources, formats, tables, encoders, splits, batches."""
