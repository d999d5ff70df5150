"""Who provides boxes: `ec2`, `static`, `embedded`. Above this package no line knows which."""
