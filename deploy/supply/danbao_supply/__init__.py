"""What goes into what Danbao ships: bills of materials, licences, known vulnerabilities."""
