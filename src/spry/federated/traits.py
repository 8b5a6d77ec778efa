from spry.federated.methods import METHODS

BACKPROPAGATING = frozenset(n for n, m in METHODS.items() if m.backpropagates)
BOUNDS = frozenset(n for n, m in METHODS.items() if m.reference)
