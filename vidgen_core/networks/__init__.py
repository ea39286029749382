"""Neural networks by name; each file is a page of its paper."""
