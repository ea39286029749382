"""Models that caption pictures; a file is a captioner."""
