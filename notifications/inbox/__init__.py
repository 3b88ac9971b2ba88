"""The pages on which users read notifications, and what the bell in other pages shows. They work without JavaScript.

pages, forms   the inbox, the page of one notification and that of a job; forms, which change notifications
query          what their URLs say: which list is shown, and what a form has changed
lists, rows    what they list, and what is shown of each notification and group
actions        what a notification offers to do, and what was done of it
timeline       what happened to a notification
categories     what notifications are about, as the project declares it
bell           what ``{% notifications %}`` renders
client_files   where pages find the scripts and style sheets of the browser client
"""
