"""Chat and SMS: notifications in Slack, Microsoft Teams, Discord and Telegram, and as text messages by Twilio."""
