"""Toy models: networks from feature vectors to feature vectors, and their decompositions."""
