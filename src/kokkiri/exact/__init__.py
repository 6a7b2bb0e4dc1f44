"""Bayes without approximation: discrete hypotheses, screening tests, conjugate families, Bayesian networks."""
