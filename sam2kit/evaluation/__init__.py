"""How good it is: the paper's protocols and the benchmarks' own arithmetic."""
