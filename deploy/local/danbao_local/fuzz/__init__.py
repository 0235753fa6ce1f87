"""Bad input costs nothing: requests made wrong from the contracts, sent at a whole stack, and every answer judged."""
