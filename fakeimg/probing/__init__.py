"""How much the features of a frozen network tell: computed once, then simple classifiers on them (see `prober`)."""
