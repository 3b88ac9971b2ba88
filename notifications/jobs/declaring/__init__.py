"""What a project declares: tasks with their policies.

tasks                      the class of tasks, with the options of ``.using()``
policies, policy_settings  ``@policy``, and policies in the settings for tasks of other packages
moments, tags              when a job may begin, and when it expires; by what it is found
limit_keys                 keys by which extensions limit how often jobs start
templates, signatures      texts that name arguments, and which arguments a task takes
package_tasks              the check of tasks of packages without a policy
own_tasks                  the tasks of this app
"""
