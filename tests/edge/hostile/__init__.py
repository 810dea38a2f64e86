"""The corpora: hostile requests, by what is wrong with them, and hostile upstream answers."""
