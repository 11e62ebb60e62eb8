"""What is true of whatever this operator deploys: where its pods are, and whom they may reach."""
