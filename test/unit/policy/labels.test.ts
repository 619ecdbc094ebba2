import { expect, test } from 'vitest';
import { parseSelector } from '../../../src/model/selector.ts';
import { LabelIndex } from '../../../src/policy/labels.ts';

test('it counts what it holds, and what came of each try', () => {
  const index = new LabelIndex({ join: () => undefined, leave: () => undefined });
  index.setItem('web', new Map([['app', 'web']]));
  index.setItem('db', new Map([['app', 'db']]));
  expect(index.stats).toEqual({ items: 2, pinned: 0, unpinned: 0, matched: 0, unmatched: 0 });
  // Only what has the label is tried.
  index.setSelector('pinned', parseSelector("app == 'web'"));
  expect(index.stats).toMatchObject({ pinned: 1, unpinned: 0, matched: 1, unmatched: 0 });
  index.setSelector('unpinned', parseSelector("app != 'web'"));
  expect(index.stats).toMatchObject({ pinned: 1, unpinned: 1, matched: 2, unmatched: 1 });
  index.deleteSelector('unpinned');
  index.deleteItem('db');
  expect(index.stats).toEqual({ items: 1, pinned: 1, unpinned: 0, matched: 2, unmatched: 1 });
});
