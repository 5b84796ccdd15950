/*
 * Replays a corpus through a fuzz target without libFuzzer: each argument is a file, or a directory whose files are
 * taken. Says "ok N NAME" or "not ok N NAME: WHY" of each, and fails if one did or if there was none.
 *
 * One process takes all inputs, each within FUZZ_TIMEOUT_S. If it crashes, hangs or exits with an error, each input gets a
 * process of its own, which names the one that does it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUZZ_TIMEOUT_S 60

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char **paths;
static size_t npaths;

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(2);
}

static void paths_add(const char *path)
{
	struct dirent **entries;
	struct stat st;
	int n;

	if (stat(path, &st))
		die(path);
	if (!S_ISDIR(st.st_mode)) {
		paths = realloc(paths, (npaths + 1) * sizeof(*paths));
		if (!paths || !(paths[npaths++] = strdup(path)))
			die(path);
		return;
	}
	n = scandir(path, &entries, NULL, alphasort);
	if (n < 0)
		die(path);
	for (int i = 0; i < n; i++) {
		char sub[4096];

		snprintf(sub, sizeof(sub), "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			paths_add(sub);
		free(entries[i]);
	}
	free(entries);
}

static void run_input(const char *path)
{
	struct stat st;
	uint8_t *data;
	FILE *f = fopen(path, "rb");

	if (!f || fstat(fileno(f), &st))
		die(path);
	/* Of the exact size: a sanitizer then sees the first byte too many. */
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!data || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
		die(path);
	fclose(f);
	alarm(FUZZ_TIMEOUT_S);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	alarm(0);
	free(data);
}

/* Runs the inputs from first to before end in one process, and returns that one's wait status. */
static int run_inputs(size_t first, size_t end)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		for (size_t i = first; i < end; i++)
			run_input(paths[i]);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		die("fork");
	return status;
}

static int report(size_t number, const char *name, int status)
{
	if (WIFSIGNALED(status))
		printf("not ok %zu %s: %s\n", number, name, strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		printf("not ok %zu %s: exit code %d\n", number, name, WEXITSTATUS(status));
	else
		printf("ok %zu %s\n", number, name);
	return status != 0;
}

int main(int argc, char **argv)
{
	int all, failed = 0;

	for (int i = 1; i < argc; i++)
		paths_add(argv[i]);
	if (!npaths) {
		fprintf(stderr, "%s: no inputs\n", argv[0]);
		return 2;
	}
	all = run_inputs(0, npaths);
	for (size_t i = 0; i < npaths; i++) {
		const char *name = strrchr(paths[i], '/');

		failed |= report(i + 1, name ? name + 1 : paths[i], all ? run_inputs(i, i + 1) : 0);
	}
	/* No input does it alone. */
	if (all && !failed)
		failed = report(npaths + 1, "all inputs in one process", all);
	return failed;
}
