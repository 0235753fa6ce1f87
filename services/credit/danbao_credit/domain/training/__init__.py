"""How a scorecard is trained: bins, weights of evidence, coefficients that cannot flip a sign, points, and metrics."""
