"""What is true about an order. Pure: time and chance are arguments, nothing here awaits."""
