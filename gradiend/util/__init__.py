"""What has no better home: files, keywords, splits, logging, metrics."""
