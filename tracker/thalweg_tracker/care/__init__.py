"""What an operator does to data as a whole: backup, restore, move, deletion, retention."""
