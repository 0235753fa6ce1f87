"""The contract served: servicers, and what messages become."""
