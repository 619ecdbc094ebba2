#ifndef MARGAY_NAMESPACE_H
#define MARGAY_NAMESPACE_H

/*
 * Hands the pod's network namespace to an agent that asks for it by listening at "<agent's socket>.netns": one that runs
 * in a container where the paths of the host's namespaces lead nowhere. Before the request, which goes by another way.
 */
void hand_namespace(const char *agent_socket, const char *path);

#endif
