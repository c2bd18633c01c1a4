"""Adapters: a module for each suite, of its name, with `names()` and `make(name, **options)`."""
