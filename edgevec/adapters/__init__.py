"""Indexes and collections as other libraries want them; each module needs its library, and is imported by name."""
