"""What tests of payments share: the books without a store, and the whole service on one."""
