"""What the commands over the tables print and do; a file each."""
