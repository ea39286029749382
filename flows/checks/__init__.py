"""What `vidgen doctor` looks at: each file has a `check(subject)`."""
