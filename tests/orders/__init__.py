"""What is true about an order: the rules, one by one."""
