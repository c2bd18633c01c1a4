"""What every algorithm is made of, whichever loop it runs in."""
