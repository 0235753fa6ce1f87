"""What every Danbao service is built with: mechanism only, no business noun but Money."""
