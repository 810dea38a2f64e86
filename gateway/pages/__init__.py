"""What people read: pages made from templates and texts, without any decision in them."""
