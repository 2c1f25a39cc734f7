"""The client of VectorDBBench for edgevec; run.py is that program with it."""
