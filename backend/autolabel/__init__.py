"""Labels written by a language model: asking for them, paying for them, and measuring how good they are."""
