import type { Argument, Command, Option } from 'commander';

/** Every command below one, with the words that lead to it; what has commands of its own and does nothing is left out. */
export function commandsOf(command: Command, words = command.name()): { words: string; command: Command }[] {
  const inner = command.commands.flatMap((each) => commandsOf(each, `${words} ${each.name()}`));
  const idle = command.commands.length > 0 && command.options.length === 0 && command.registeredArguments.length === 0;
  return idle && !acts(command) ? inner : [{ words, command }, ...inner];
}

/** Commander keeps it to itself whether a command has an action. */
function acts(command: Command): boolean {
  return Boolean((command as unknown as { _actionHandler?: unknown })._actionHandler);
}

/** The page of a program's commands, as their `--help` tells them. Pure. */
export function commandPage(programs: readonly Command[]): string {
  const parts = programs.flatMap((program) => [
    `## ${program.name()}`,
    `${program.description()}.`,
    ...sections(program),
  ]);
  return [
    '# Commands',
    'Every command and option, as `--help` tells them; `test/unit/docs` holds this page to that. What the commands show and\nmean is on the pages of their subjects. All of `margayctl` take `--help`, and end with 0, with 1 for a finding or a failure,\nwith 2 for wrong options and input, and with 3 when an agent or the datastore does not answer.',
    ...parts,
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n');
}

function sections(program: Command): string[] {
  return commandsOf(program).flatMap(({ words, command }) => {
    const usage = [words, ...command.registeredArguments.map(argumentText)].join(' ');
    const rows = [
      ...command.registeredArguments
        .filter(({ description }) => description)
        .map((each) => row(argumentText(each), each)),
      ...command.options.map((each) => row(each.flags, each)),
    ];
    const table = rows.length > 0 ? [['| | |', '| --- | --- |', ...rows].join('\n')] : [];
    return [`### \`${usage}\``, ...(command === program ? [] : [`${command.description()}.`]), ...table];
  });
}

function argumentText(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

function row(name: string, { description, defaultValue, argChoices }: Option | Argument): string {
  const notes = [
    ...(argChoices ? [`one of ${argChoices.join(', ')}`] : []),
    ...(defaultValue === undefined || Array.isArray(defaultValue) ? [] : [`default ${String(defaultValue)}`]),
  ];
  const text = `${description}${notes.length > 0 ? ` (${notes.join('; ')})` : ''}`;
  return `| \`${name}\` | ${text} |`.replaceAll(/(?<!^|\s)\|(?!$|\s)/g, '\\|');
}
