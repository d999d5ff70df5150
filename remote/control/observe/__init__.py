"""What boxes and jobs have to do, live and around the moment when something went wrong."""
