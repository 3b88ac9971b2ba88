"""What a member of staff may lose while a job of theirs runs."""

RIGHTS = ["permission", "is_staff", "is_active"]


def lose_right(user, right):
    """Take a right away, as another process would: objects that were read before keep theirs."""
    if right == "permission":
        user.user_permissions.clear()
    else:
        type(user).objects.filter(pk=user.pk).update(**{right: False})
