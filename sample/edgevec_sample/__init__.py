"""The files of edgevec's sample; `edgevec.samples.wordnet()` reads them."""
