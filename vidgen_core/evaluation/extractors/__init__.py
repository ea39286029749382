"""Networks that turn clips into the features that set metrics compare; a file is one of them."""
