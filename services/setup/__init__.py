"""What has to be there before the services of the deployment start: secrets, users, topics."""
